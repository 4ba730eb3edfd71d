package integration

import (
	"testing"

	"stasis/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
