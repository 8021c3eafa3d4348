"""Figures, tables and the page that analysts open."""
