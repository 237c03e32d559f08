"""Tokens of sentences. Imports nothing: worker processes that only move bytes start without torch."""

# Tokens that are no words; word w of the vocabulary is token FIRST_WORD + w.
PADDING, BLANK, BEGIN, END = 0, 1, 2, 3
FIRST_WORD = 4
