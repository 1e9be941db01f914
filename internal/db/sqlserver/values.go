package sqlserver

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// kind is how the values of a type are written.
type kind uint8

const (
	asNumber   kind = iota + 1 // a JSON number: integers of at most 32 bits
	asInteger                  // a string of digits: 64 bits
	asBool                     //
	asFloat                    // a JSON number that means the same 64-bit value
	asReal                     // the same, 32 bits
	asDigits                   // a string: exact decimal numbers
	asText                     //
	asBytes                    // base64
	asGUID                     // a string, in its written order
	asDate                     //
	asTime                     //
	asDateTime                 // without a zone, so without a Z
	asOffset                   // with its own offset
	asVariant                  //
)

// kinds are the kinds by the server's names of types. What a type is decides, never what the driver makes of it: it
// gives bytes for decimals, GUIDs and binary values alike.
var kinds = map[string]kind{
	"TINYINT": asNumber, "SMALLINT": asNumber, "INT": asNumber, "BIGINT": asInteger, "BIT": asBool,
	"FLOAT": asFloat, "REAL": asReal, "DECIMAL": asDigits, "MONEY": asDigits, "SMALLMONEY": asDigits,
	"CHAR": asText, "VARCHAR": asText, "TEXT": asText, "NCHAR": asText, "NVARCHAR": asText, "NTEXT": asText, "XML": asText,
	"BINARY": asBytes, "VARBINARY": asBytes, "IMAGE": asBytes, "UNIQUEIDENTIFIER": asGUID,
	"DATE": asDate, "TIME": asTime, "DATETIME": asDateTime, "SMALLDATETIME": asDateTime, "DATETIME2": asDateTime,
	"DATETIMEOFFSET": asOffset, "SQL_VARIANT": asVariant,
}

// column is one column of an answer.
type column struct {
	contract.Column
	kind   kind
	layout string // of times
}

// columnTypes is what the driver knows of the columns of an answer.
type columnTypes interface {
	Columns() []string
	ColumnTypeDatabaseTypeName(index int) string
	ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool)
}

var _ columnTypes = (*mssql.Rowsq)(nil)

// describe names the columns of an answer. The driver panics at a type that it does not know.
func describe(rows columnTypes) (columns []column, err error) {
	defer func() {
		if recover() != nil {
			err = db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "a column has a type that the driver does not know: cast it")
		}
	}()
	names := rows.Columns()
	columns = make([]column, len(names))
	for i, name := range names {
		of := rows.ColumnTypeDatabaseTypeName(i)
		c := column{Column: contract.Column{Name: name, Type: strings.ToLower(of)}, kind: kinds[of]}
		if c.kind == 0 {
			c.kind = asBytes // types of the CLR: geography, hierarchyid
		}
		c.layout = layout(of, scale(rows, i))
		columns[i] = c
	}
	return columns, nil
}

func scale(rows columnTypes, i int) int {
	_, n, ok := rows.ColumnTypePrecisionScale(i)
	if !ok {
		return 0
	}
	return int(min(max(n, 0), 7))
}

// layout is how a time of a type is written: ISO 8601 with all the digits that the type has.
func layout(of string, scale int) string {
	const date, clock = "2006-01-02", "15:04:05"
	fraction := ""
	switch {
	case of == "DATETIME":
		fraction = ".000"
	case scale > 0:
		fraction = ".0000000"[:scale+1]
	}
	switch kinds[of] {
	case asDate:
		return date
	case asTime:
		return clock + fraction
	case asDateTime:
		return date + "T" + clock + fraction
	case asOffset:
		return date + "T" + clock + fraction + "-07:00"
	default:
		return ""
	}
}

// appendValue appends one value as JSON.
func appendValue(dst []byte, c *column, v driver.Value) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case int64:
		switch c.kind {
		case asNumber:
			return strconv.AppendInt(dst, v, 10), nil
		case asInteger:
			return append(strconv.AppendInt(append(dst, '"'), v, 10), '"'), nil
		default:
			return dst, unreadable(c, v)
		}
	case bool:
		if c.kind == asBool {
			return strconv.AppendBool(dst, v), nil
		}
	case float64:
		switch c.kind { // the server stores neither NaN nor infinities
		case asFloat:
			return strconv.AppendFloat(dst, v, 'g', -1, 64), nil
		case asReal:
			return strconv.AppendFloat(dst, v, 'g', -1, 32), nil
		default:
			return dst, unreadable(c, v)
		}
	case string:
		if c.kind == asText {
			if strings.IndexByte(v, 0) >= 0 { // which no body of a job may hold
				dst = append(dst, `{"type":"`+textBase64+`","value":`...)
				return append(jsontext.AppendBase64(dst, []byte(v)), '}'), nil
			}
			dst, lossless := jsontext.AppendText(dst, v)
			if !lossless {
				return dst, db.Errorf(db.ClassPermanent, contract.CodeData,
					"a value of column %q cannot be written without loss: it is not valid text", c.Name)
			}
			return dst, nil
		}
	case []byte:
		switch c.kind {
		case asDigits:
			return append(append(append(dst, '"'), v...), '"'), nil
		case asBytes:
			return jsontext.AppendBase64(dst, v), nil
		case asGUID:
			if len(v) == 16 {
				return appendGUID(dst, v), nil
			}
		default:
		}
		return dst, unreadable(c, v)
	case time.Time:
		if c.layout != "" {
			return append(v.AppendFormat(append(dst, '"'), c.layout), '"'), nil
		}
	}
	return dst, unreadable(c, v)
}

func appendGUID(dst, v []byte) []byte {
	dst = append(dst, '"')
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, v[[...]int{0, 4, 6, 8, 10}[i]:end])
	}
	return append(dst, '"')
}

// unreadable is the error of a value that could not be written without loss. Of a sql_variant the driver reports no base
// type: a decimal and a binary value look alike.
func unreadable(c *column, v any) *db.Error {
	if c.kind == asVariant {
		return db.Errorf(db.ClassPermanent, contract.CodeNotSupported,
			"column %q is a sql_variant, whose type the driver does not report: CAST it, and select "+
				"SQL_VARIANT_PROPERTY(…, 'BaseType') beside it where the type matters", c.Name)
	}
	return db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "the values of column %q cannot be read", c.Name).
		Because(fmt.Errorf("sqlserver: a %T for type %s", v, c.Type))
}
