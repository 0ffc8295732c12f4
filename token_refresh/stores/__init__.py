"""Where credentials are kept. A plain store holds sealed text; `sealed` is the only place where it is opened."""
