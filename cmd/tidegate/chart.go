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
	for _, p := range points {
		at := chartColumn(p.At, first, last)
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

// chartColumn is where a time is in a chart.
func chartColumn(at, first, last time.Time) int {
	length := last.Sub(first)
	if length <= 0 {
		return chartWidth - 1
	}
	return min(max(int(float64(at.Sub(first))/float64(length)*chartWidth), 0), chartWidth-1)
}

// chartMoment is something that happened in the time of a chart.
type chartMoment struct {
	at   time.Time
	what string
}

// chartMoments are lines below a chart of a series, each of which marks a moment. The words
// are on the side where there is room.
func chartMoments(series []deploy.EvidencePoint, moments []chartMoment) []string {
	if len(series) == 0 {
		return nil
	}
	lines := make([]string, len(moments))
	for i, m := range moments {
		column := chartColumn(m.at, series[0].At, series[len(series)-1].At)
		words := m.at.Local().Format(time.TimeOnly) + " " + m.what
		if length := len([]rune(words)); column > length {
			lines[i] = fmt.Sprintf("%7s%*s%s ▲", "", column-length-1, "", words)
		} else {
			lines[i] = fmt.Sprintf("%7s%*s▲ %s", "", column, "", words)
		}
	}
	return lines
}
