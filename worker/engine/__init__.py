"""Engines, behind one seam."""
