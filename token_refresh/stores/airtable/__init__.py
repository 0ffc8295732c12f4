"""Airtable as a store of credentials."""

from token_refresh.stores.airtable.options import AirtableOptions
from token_refresh.stores.airtable.store import AirtableStore

__all__ = ["AirtableOptions", "AirtableStore"]
