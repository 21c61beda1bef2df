"""Record live: source, raw recording and denoising lane, with control, report and metrics."""
