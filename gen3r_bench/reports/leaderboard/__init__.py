"""The leaderboard: runs as one folder of data, tables and a page that opens from disk."""
