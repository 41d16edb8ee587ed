"""Tests of Hearth; the folders mirror the packages."""
