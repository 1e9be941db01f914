package intake_test

import (
	"testing"

	"dbrunner/internal/bus/bustest"
)

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

const database = bustest.Database
