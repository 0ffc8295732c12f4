"""Airtable as a store of credentials."""

from stores.airtable.options import AirtableOptions
from stores.airtable.store import AirtableStore

__all__ = ["AirtableOptions", "AirtableStore"]
