"""Everything that speaks to ZooKeeper; kazoo's threads and asyncio meet here only."""
