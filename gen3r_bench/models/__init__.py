"""Networks of the methods, and how their official weights are read; no dataset, metric or protocol is known here."""
