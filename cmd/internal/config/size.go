package config

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// unit is a factor and the names it is read by, lower case; the first name of
// the binary ones is how a size is written.
type unit struct {
	factor int64
	names  []string
}

var units = []unit{
	{1 << 60, []string{"eib", "e"}}, {1e18, []string{"eb"}},
	{1 << 50, []string{"pib", "p"}}, {1e15, []string{"pb"}},
	{1 << 40, []string{"tib", "t"}}, {1e12, []string{"tb"}},
	{1 << 30, []string{"gib", "g"}}, {1e9, []string{"gb"}},
	{1 << 20, []string{"mib", "m"}}, {1e6, []string{"mb"}},
	{1 << 10, []string{"kib", "k"}}, {1e3, []string{"kb"}},
	{1, []string{"b", ""}},
}

// ParseSize reads a size in bytes: "500GiB", "500G" (the same), "500GB" (powers of
// ten), "1.5TiB", "4096".
func ParseSize(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	split := len(text)
	for split > 0 && (text[split-1] < '0' || text[split-1] > '9') {
		split--
	}
	number, name := text[:split], strings.TrimSpace(text[split:])
	factor := int64(0)
	for _, u := range units {
		for _, n := range u.names {
			if n == name {
				factor = u.factor
			}
		}
	}
	if factor == 0 || !decimal(number) {
		return 0, fmt.Errorf("%.40q is not a size; write it like 500GiB, 500GB or 500G", s)
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%.40q is not a size; write it like 500GiB, 500GB or 500G", s)
	}
	value.Mul(value, new(big.Rat).SetInt64(factor))
	bytes := new(big.Int).Quo(value.Num(), value.Denom())
	if !bytes.IsInt64() {
		return 0, fmt.Errorf("%.40q is too large a size", s)
	}
	return bytes.Int64(), nil
}

// ParseRate reads a rate in bytes a second: "20MiB/s", or a size alone.
func ParseRate(s string) (int64, error) {
	n, err := ParseSize(strings.TrimSuffix(strings.TrimSpace(s), "/s"))
	switch {
	case err != nil:
		return 0, fmt.Errorf("%.40q is not a rate; write it like 20MiB/s", s)
	case n < MinRate:
		return 0, fmt.Errorf("%s/s is too slow; the least is %s/s", FormatSize(n), FormatSize(MinRate))
	}
	return n, nil
}

// decimal accepts digits with at most one point among them, at most 20 long:
// no signs, exponents or fractions.
func decimal(s string) bool {
	if s == "" || len(s) > 20 || s[0] == '.' || strings.Count(s, ".") > 1 {
		return false
	}
	return strings.Trim(s, "0123456789.") == ""
}

// FormatSize writes a size for people, in binary units and three digits:
// "1.50 TiB", "64.0 MiB", "12 B".
func FormatSize(n int64) string {
	for _, u := range []struct {
		factor int64
		name   string
	}{{1 << 60, "EiB"}, {1 << 50, "PiB"}, {1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n < u.factor {
			continue
		}
		value := float64(n) / float64(u.factor)
		digits := 2
		if value >= 100 {
			digits = 0
		} else if value >= 10 {
			digits = 1
		}
		return strconv.FormatFloat(value, 'f', digits, 64) + " " + u.name
	}
	return strconv.FormatInt(n, 10) + " B"
}

// exactSize writes a size so that ParseSize gives it back: with the largest unit
// that divides it.
func exactSize(n int64) string {
	for _, u := range units {
		if n > 0 && n%u.factor == 0 && u.factor > 1 && u.factor&(u.factor-1) == 0 {
			name := u.names[0]
			return strconv.FormatInt(n/u.factor, 10) + strings.ToUpper(name[:1]) + "iB"
		}
	}
	return strconv.FormatInt(n, 10)
}
