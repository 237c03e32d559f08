"""The files that data is kept in, whatever it is: Parquet tables, tars, images, tables of words."""
