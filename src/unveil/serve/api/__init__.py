"""The server's own API, /api, with the names of the command line."""
