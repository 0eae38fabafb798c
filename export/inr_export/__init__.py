"""Turn a trained model into a .nvb file and prove that it plays."""
