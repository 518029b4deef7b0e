"""Builds the enterprise's side of the laboratory: its package repository and its boot image.

Everything comes from the Debian archives that this machine's own apt already knows, resolved in an apt of its own
(`debian`), so neither result depends on what happens to be installed here. Both results are directories that appear
whole or not at all (`output`).
"""
