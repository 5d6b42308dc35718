"""Redis Streams: the feed, the work streams and the control stream. Everything in them can be lost and comes again."""
