"""What the sources read their samples with: tars, picture files, corpora, fonts."""
