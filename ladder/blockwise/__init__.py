"""A model run block by block, with one block's weights in memory."""
