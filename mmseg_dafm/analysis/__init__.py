"""Analysis: pictures and tables that show what a trained model does; tools call these functions."""
