"""Tests of the rules, scrapes and routes, on the programs that will read them."""
