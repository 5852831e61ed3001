"""The pretrained tokenizers: their recipes, and the program that makes them."""
