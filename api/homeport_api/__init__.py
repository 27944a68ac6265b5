"""The vocabulary of Homeport: its objects, addresses and errors. Standard library only; imported by all."""
