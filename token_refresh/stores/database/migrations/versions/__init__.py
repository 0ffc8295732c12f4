"""One revision a version. They stay as they are: a database in use may be at any of them."""
