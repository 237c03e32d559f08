"""Readers that the sources share: tars, picture files, corpora, fonts."""
