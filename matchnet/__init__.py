"""The paper, one part a file: episodes, attention, context, encoders, baselines, training, evaluation."""
