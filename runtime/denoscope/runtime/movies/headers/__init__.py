"""Facts that a header or the metadata beside the pixels tells: order of the pages, pixel size, times."""
