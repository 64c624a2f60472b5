package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

// Size of a chart in characters; it fits a terminal of 80 columns.
const (
	chartWidth  = 64
	chartHeight = 8
	chartTop    = 2 // thresholds: what is far above one would make it invisible
)

// blocks fill a character from below by eighths.
var blocks = []rune(" ▁▂▃▄▅▆▇█")

// chart draws how evidence grew, as a share of the threshold, from its first point to
// its last. Each column has the highest point of its time, or the one before if it has
// none; what is below zero is no evidence. Points that are no numbers are left out.
func chart(series []deploy.EvidencePoint, threshold float64) []string {
	var points []deploy.EvidencePoint
	top := threshold
	for _, p := range series {
		if !math.IsNaN(p.LogE) && !math.IsInf(p.LogE, 0) {
			points, top = append(points, p), max(top, p.LogE)
		}
	}
	top = min(top, chartTop*threshold)
	if len(points) == 0 || !(threshold > 0) {
		return nil
	}
	first, last := points[0].At, points[len(points)-1].At
	columns := chartColumns(points, first, last)
	lines := make([]string, 0, chartHeight+1)
	for row := chartHeight; row > 0; row-- {
		from, until := top*float64(row-1)/chartHeight, top*float64(row)/chartHeight
		label, empty := "", ' '
		switch {
		case threshold > from && threshold <= until:
			label, empty = "100%", '┄'
		case row == 1:
			label = "0%"
		}
		var b strings.Builder
		for _, value := range columns {
			eighths := int(math.Round(8 * min(max((value-from)/(until-from), 0), 1)))
			if eighths == 0 {
				b.WriteRune(empty)
			} else {
				b.WriteRune(blocks[eighths])
			}
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%5s |%s", label, b.String()), " "))
	}
	begin, end := first.Local().Format(time.TimeOnly), last.Local().Format(time.TimeOnly)
	return append(lines, fmt.Sprintf("%5s  %s%*s", "", begin, chartWidth-len(begin), end))
}

func chartColumns(points []deploy.EvidencePoint, first, last time.Time) [chartWidth]float64 {
	var columns [chartWidth]float64
	var filled [chartWidth]bool
	length := last.Sub(first)
	for _, p := range points {
		at := chartWidth - 1
		if length > 0 {
			at = min(max(int(float64(p.At.Sub(first))/float64(length)*chartWidth), 0), chartWidth-1)
		}
		if !filled[at] || p.LogE > columns[at] {
			columns[at], filled[at] = p.LogE, true
		}
	}
	for i := 1; i < chartWidth; i++ {
		if !filled[i] {
			columns[i] = columns[i-1]
		}
	}
	return columns
}
