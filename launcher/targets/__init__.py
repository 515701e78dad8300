"""Where kernels run and checkpoints lie; the only room that imports the Kaggle client."""
