"""Small programs that use the tokens: plain HTTP calls, to be copied and changed."""
