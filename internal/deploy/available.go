package deploy

// Available returns the splits for drawing when the versions that failed names
// cannot serve: they have no share, so that the others divide the traffic in the
// proportions that they have among themselves. An override still finds them. If no
// version with a share is left, the splits stay as they are: any answer of a
// failed version tells more than none. Splits is not changed; the result may be it.
func Available(splits []Split, failed func(versionID string) bool) []Split {
	var without []Split
	left := false
	for i, s := range splits {
		switch {
		case s.Percentage == 0:
		case !failed(s.VersionID):
			left = true
		default:
			if without == nil {
				without = append([]Split(nil), splits...)
			}
			without[i].Percentage = 0
		}
	}
	if without == nil || !left {
		return splits
	}
	return without
}
