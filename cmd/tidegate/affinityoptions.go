package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"tidegate/internal/deploy"
)

// affinityOptions are what flags say beside the rules of "affinity set".
type affinityOptions struct {
	file      string
	forward   bool
	setCookie bool
	maxAge    string
	cookie    deploy.AffinityCookieAttributes // all but MaxAge
}

// cookieFlag begins the names of the flags for a cookie's attributes.
const cookieFlag = "cookie-"

func (o *affinityOptions) declare(flags *pflag.FlagSet) {
	flags.BoolVar(&o.setCookie, "set-cookie", false, "give clients the cookie of the last rule, with a random key, where they have none")
	flags.StringVar(&o.maxAge, cookieFlag+"max-age", "", "how long browsers keep that cookie, such as 720h; left out, until they are closed")
	flags.StringVar(&o.cookie.SameSite, cookieFlag+"same-site", "", "lax (default) or none")
	flags.StringVar(&o.cookie.Domain, cookieFlag+"domain", "", "the name whose subdomains get it, too; left out, the host alone")
	flags.StringVar(&o.cookie.Path, cookieFlag+"path", "", "where it is sent; left out, everywhere")
	flags.StringVar(&o.cookie.Secure, cookieFlag+"secure", "", "auto (default), where clients speak HTTPS, or always")
	flags.BoolVar(&o.cookie.Partitioned, cookieFlag+"partitioned", false, "keep one for each site that embeds this one")
	flags.BoolVar(&o.forward, "forward", false, "pass the keys of all the rules on to the version, as Cloudflare-Workers-Version-Key; left out, those of --set-cookie")
	flags.StringVar(&o.file, "file", "", "JSON of the rules, as the API has it; - reads standard input")
}

// given reports whether a flag but --file was.
func (o *affinityOptions) given(flags *pflag.FlagSet) bool {
	return flags.Changed("forward") || flags.Changed("set-cookie") || cookieAttribute(flags) != ""
}

// cookieAttribute returns the name of a flag for the cookie that was given, or "".
func cookieAttribute(flags *pflag.FlagSet) (name string) {
	flags.Visit(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, cookieFlag) {
			name = f.Name
		}
	})
	return name
}

// affinity returns the rules of the texts with what the flags add.
func (o *affinityOptions) affinity(flags *pflag.FlagSet, texts []string) (deploy.Affinity, error) {
	var a deploy.Affinity
	for _, text := range texts {
		rule, err := parseAffinityRule(text)
		if err != nil {
			return a, fmt.Errorf("rule %q: %w", text, err)
		}
		if flags.Changed("forward") {
			rule.Forward = &o.forward
		}
		a.Rules = append(a.Rules, rule)
	}
	if name := cookieAttribute(flags); name != "" && !o.setCookie {
		return a, fmt.Errorf("--%s goes with --set-cookie", name)
	}
	if o.setCookie {
		set := o.cookie
		if o.maxAge != "" {
			var err error
			if set.MaxAge, err = parseSeconds(o.maxAge); err != nil {
				return a, fmt.Errorf("--%smax-age %q: %w", cookieFlag, o.maxAge, err)
			}
		}
		a.Rules[len(a.Rules)-1].Set = &set
	}
	return a, a.Validate()
}

// readAffinity is as strict as the API.
func readAffinity(stdin io.Reader, path string) (deploy.Affinity, error) {
	var a deploy.Affinity
	if err := readStrict(stdin, path, "rules", &a); err != nil {
		return a, err
	}
	if err := a.Validate(); err != nil {
		return a, fmt.Errorf("read %s: %w", path, err)
	}
	return a, nil
}

// formatAffinityOptions uses the words and the notation of the flags.
func formatAffinityOptions(r deploy.AffinityRule) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, "--"+cookieFlag+name+" "+value)
		}
	}
	if c := r.Set; c != nil {
		parts = append(parts, "--set-cookie")
		if c.MaxAge > 0 {
			add("max-age", seconds(c.MaxAge))
		}
		add("same-site", c.SameSite)
		add("domain", c.Domain)
		add("path", c.Path)
		add("secure", c.Secure)
		if c.Partitioned {
			parts = append(parts, "--"+cookieFlag+"partitioned")
		}
	}
	if r.Forward != nil {
		parts = append(parts, map[bool]string{true: "--forward", false: "--forward=false"}[*r.Forward])
	}
	return strings.Join(parts, " ")
}
