package control

import (
	"encoding/json"
	"reflect"

	"stasis/store"
)

// Read reads an answer, or a part of one, and makes its texts printable, those in structs
// and slices included. A field with the tag `text:"raw"` stays as it is: it is a path for
// scripts, and whoever shows it sees to that.
func Read(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return &store.Error{Kind: store.Invalid, Op: "read the daemon's answer", Detail: store.Printable(err.Error(), MaxText)}
	}
	show(reflect.ValueOf(into))
	return nil
}

func show(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			show(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			show(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("text") != "raw" {
				show(v.Field(i))
			}
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(store.Printable(v.String(), MaxText))
		}
	}
}
