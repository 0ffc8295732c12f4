"""How a credential begins and ends: admission, revocation, removal."""
