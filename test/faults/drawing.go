package main

import (
	"bytes"
	"fmt"
	"html"
	"slices"
)

// drawing draws each figure over time, one below the other, each from zero to its own largest value.
func drawing(r *soakReport) []byte {
	const width, height, left, top, gap = 900, 70, 230, 40, 24
	var b bytes.Buffer
	total := top + len(r.Series)*(height+gap)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+90, total)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(&b, `<text x="10" y="22" font-size="15">%d jobs in %.0f s, started %s</text>`+"\n", r.Jobs, r.Seconds, html.EscapeString(r.Time))
	for i, s := range r.Series {
		y := top + i*(height+gap)
		most := max(slices.Max(s.Values), 1)
		fmt.Fprintf(&b, `<text x="10" y="%d">%s</text>`+"\n", y+height/2, html.EscapeString(s.Name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="#f4f4f4"/>`+"\n", left, y, width, height)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%.0f %s</text>`+"\n", left+width+6, y+10, most, s.Unit)
		fmt.Fprintf(&b, `<text x="%d" y="%d">0</text>`+"\n", left+width+6, y+height)
		fmt.Fprintf(&b, `<polyline fill="none" stroke="#1f6feb" stroke-width="1.5" points="`)
		for j, v := range s.Values {
			x := float64(left) + float64(width)*float64(j)/float64(max(len(s.Values)-1, 1))
			fmt.Fprintf(&b, "%.1f,%.1f ", x, float64(y+height)-v/most*float64(height))
		}
		b.WriteString(`"/>` + "\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
