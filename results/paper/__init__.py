"""The paper's nine tables as CSV files; read them through ``gen3r_bench.reports.paper``."""
