"""Providers: what is known of each, as data in `catalog/`, and how its token endpoint is asked."""

from providers.addresses import origin_of
from providers.base import Endpoint, Provider, ProviderError, ProviderSummary
from providers.entries import CatalogError
from providers.registry import Catalog, Override

__all__ = [
    "Catalog",
    "CatalogError",
    "Endpoint",
    "Override",
    "Provider",
    "ProviderError",
    "ProviderSummary",
    "origin_of",
]
