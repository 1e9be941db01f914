package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// drawMemory draws a runner's resident memory over the time of several results of so many rows, as SVG.
func drawMemory(path string, megabytes []float64, rows int) error {
	const width, height, left, bottom = 720.0, 300.0, 60.0, 40.0
	if len(megabytes) < 2 {
		return nil
	}
	top := slices.Max(megabytes) * 1.1
	var line strings.Builder
	for i, mb := range megabytes {
		x := left + (width-left-10)*float64(i)/float64(len(megabytes)-1)
		y := (height - bottom) * (1 - mb/top)
		_, _ = fmt.Fprintf(&line, "%.1f,%.1f ", x, y+5)
	}
	var axis strings.Builder
	const steps = 4
	for i := range steps + 1 {
		y := (height-bottom)*(1-float64(i)/steps) + 5
		_, _ = fmt.Fprintf(&axis, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.0f MB</text>`+"\n",
			left, width-10, y, y, left-6, y+4, top*float64(i)/steps)
	}
	svg := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
%s<polyline fill="none" stroke="#1f6feb" stroke-width="1.5" points="%s"/>
<text x="%.0f" y="%.0f">%d concurrent results of %d rows each, as CSV to the object store: resident memory of the runner over %.1f s</text>
</svg>
`, width, height, axis.String(), line.String(), left, height-10, together, rows, float64(len(megabytes))*sampled.Seconds())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(svg), 0o644)
}
