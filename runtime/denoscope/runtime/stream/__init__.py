"""Turn a live movie into a denoised one: the stream, its ring of frames, window, memory and guard."""
