"""Loopback stand-ins for the applications in the services' pods (Grafana, Airflow and Milvus) and for the pods'
network.

Each says in its own words what it models, and answers 501 to everything else. Which pod's port leads to which of
them is the business of the agent (`agents/services.py`).
"""
