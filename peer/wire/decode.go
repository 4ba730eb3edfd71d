package wire

import (
	"encoding/json"

	"stasis/store"
)

// listed is a message with lists: how many elements all of them may have together. In others
// there is none.
type listed interface{ most() int }

func (*Reserve) most() int      { return 2 * MaxIDs }
func (*Shares) most() int       { return MaxShares }
func (*Receipts) most() int     { return MaxReceipts }
func (*Batch) most() int        { return MaxBatchCrates }
func (*BatchResults) most() int { return MaxBatchCrates * (1 + MaxReceipts) }
func (*Page) most() int         { return store.MaxPage }
func (*Fence) most() int        { return MaxTokens }

// Decode reads a message in JSON. One whose lists have too many elements is Invalid before any
// of them is made: to each byte of `[0,0,...` there are some hundred of memory.
func Decode(text []byte, message any) error {
	most := 0
	if l, ok := message.(listed); ok {
		most = l.most()
	}
	if elements(text, most) > most {
		return invalid("a message", "its lists have more than %d elements", most)
	}
	if err := json.Unmarshal(text, message); err != nil {
		return invalid("a message", "it is not the JSON of this one: %v", err)
	}
	return nil
}

// elements is how many elements the lists of a message in JSON have together. It counts no
// further than one more than most. What is no JSON has some number.
func elements(text []byte, most int) (n int) {
	var lists []bool // of what is open: whether it is a list
	begun := false   // a list was, and nothing has come in it
	for i := 0; i < len(text) && n <= most; i++ {
		c := text[i]
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case ']', '}':
			lists = lists[:max(0, len(lists)-1)]
			begun = false
			continue
		}
		if begun {
			n++
			begun = false
		}
		switch c {
		case '[', '{':
			if len(lists) == maxDepth {
				return most + 1
			}
			lists = append(lists, c == '[')
			begun = c == '['
		case ',':
			if len(lists) > 0 && lists[len(lists)-1] {
				n++
			}
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
	}
	return n
}
