"""What is shown: figures as text, pictures and pages, and the page of a backward pass."""
