"""A row of a table measured, its costly parts shared among workers, and two rows compared."""
