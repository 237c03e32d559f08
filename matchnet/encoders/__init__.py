"""What an image or a sentence is embedded with, before it sees the episode: f' and g' of the paper."""
