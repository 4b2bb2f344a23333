"""Measurements beside other implementations, each a script that anybody can run again."""
