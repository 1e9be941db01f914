package toy

import (
	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/jsontext"
)

// row is the row of a key, none if the map does not have it.
func (s *session) row(key string) (db.ResultSet, error) {
	if err := s.encoder.Start([]contract.Column{{Name: "key", Type: "text"}, {Name: "value", Type: "text"}}); err != nil {
		return db.ResultSet{}, engine.NotEncoded(err)
	}
	if value, ok := s.values[key]; ok {
		dst := jsontext.AppendString(s.encoder.Next(s.encoder.BeginRow()), key)
		dst = jsontext.AppendString(s.encoder.Next(dst), value)
		if err := s.encoder.EndRow(dst); err != nil {
			return db.ResultSet{}, engine.NotEncoded(err)
		}
	}
	return s.encoder.Finish()
}
