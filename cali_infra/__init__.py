"""cali: one command for a log-analytics platform on AWS."""

__version__ = "0.1.0"
