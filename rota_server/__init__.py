"""What is installed of the server, under one name.

In a checkout the folders below are links to the repository's top-level folders; a wheel has the files themselves.
Nothing is imported by the folders' own names, which a user's project may well have, too.
"""
