// Package format writes what the operator's page shows: durations, numbers, sizes, and texts of others, which are shortened and
// escaped.
package format

import (
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/plaintext"
)

// Period shows a duration in one or two units, as the script does.
func Period(d time.Duration) string {
	d = max(d, 0)
	seconds := int64(d / time.Second)
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case seconds < 60:
		return strconv.FormatInt(seconds, 10) + " s"
	case seconds < 3600:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds%3600/60)
	}
	return fmt.Sprintf("%d d", seconds/86400)
}

// Text is how much of a text of others is shown, in characters.
const Text = 2000

// Error is how much of an error is shown, in characters.
const Error = 500

// Clip shortens a text to a number of characters, and reports how long it was.
func Clip(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "… (" + Size(uint64(len(text))) + ")"
		}
	}
	return text
}

// Shown returns a text of others for the page: what would hide something or change the direction of the text is escaped.
func Shown(text string) string { return plaintext.Visible(text, "\n\t") }

// Number shows a number with its thousands apart.
func Number(n any) string {
	if p, ok := n.(*uint64); ok && p != nil {
		n = *p
	}
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	if strings.ContainsAny(text, ".e") {
		return sign + text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// Size shows a number of bytes.
func Size(n any) string {
	value, err := strconv.ParseFloat(fmt.Sprint(n), 64)
	if err != nil {
		return html.EscapeString(fmt.Sprint(n))
	}
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if value < 1024 || unit == "GiB" {
			return strconv.FormatFloat(value, 'f', map[bool]int{true: 0, false: 1}[unit == "B" || value >= 100], 64) + " " + unit
		}
		value /= 1024
	}
	return ""
}

// Tone is the class of a word: how it is colored, besides being written.
func Tone(word any) string {
	switch fmt.Sprint(word) {
	case string(contract.Healthy), string(contract.Succeeded), contract.DatabaseUp, contract.RunnerRunning, contract.ScheduleActive:
		return "good"
	case string(contract.Degraded), contract.DatabasePaused, string(contract.Canceled), string(contract.Expired), contract.RunnerStarting, contract.RunnerDraining, "silent":
		return "warn"
	case "":
		return "calm"
	case contract.RunnerStopped, contract.JobWaiting, contract.JobExecuting, contract.JobSettling, contract.ScheduleFinished, "new", "dead letters":
		return "calm"
	}
	return "bad"
}
