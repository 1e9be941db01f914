package sqlserver_test

import (
	"dbrunner/contract"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
)

func values() []dbtest.ValueCase {
	list := []dbtest.ValueCase{
		{Name: "tinyint", SQL: "CAST(255 AS tinyint)", Type: "tinyint", JSON: `255`},
		{Name: "smallint", SQL: "CAST(-32768 AS smallint)", Type: "smallint", JSON: `-32768`},
		{Name: "int", SQL: "CAST(-2147483648 AS int)", Type: "int", JSON: `-2147483648`},
		{Name: "bigint", SQL: "CAST(9223372036854775807 AS bigint)", Type: "bigint", JSON: `"9223372036854775807"`},
		{Name: "bigint small", SQL: "CAST(1 AS bigint)", Type: "bigint", JSON: `"1"`},
		{Name: "bit", SQL: "CAST(1 AS bit)", Type: "bit", JSON: `true`},
		{Name: "decimal", SQL: "CAST(12345678901234567890.123456789012345678 AS decimal(38,18))", Type: "decimal", JSON: `"12345678901234567890.123456789012345678"`},
		{Name: "decimal negative", SQL: "CAST(-0.10 AS decimal(5,2))", Type: "decimal", JSON: `"-0.10"`},
		{Name: "decimal whole", SQL: "CAST(7 AS decimal(38,0))", Type: "decimal", JSON: `"7"`},
		{Name: "money", SQL: "CAST(922337203685477.5807 AS money)", Type: "money", JSON: `"922337203685477.5807"`},
		{Name: "money negative", SQL: "CAST(-1.5 AS money)", Type: "money", JSON: `"-1.5000"`},
		{Name: "smallmoney", SQL: "CAST(214748.3647 AS smallmoney)", Type: "smallmoney", JSON: `"214748.3647"`},
		{Name: "float", SQL: "CAST(0.1 AS float)", Type: "float", JSON: `0.1`},
		{Name: "float largest", SQL: "CAST(1.7976931348623157E308 AS float)", Type: "float", JSON: `1.7976931348623157e+308`},
		{Name: "float smallest", SQL: "CAST(2.2250738585072014E-308 AS float)", Type: "float", JSON: `2.2250738585072014e-308`},
		{Name: "real", SQL: "CAST(0.1 AS real)", Type: "real", JSON: `0.1`},
		{Name: "real largest", SQL: "CAST(3.4028235E38 AS real)", Type: "real", JSON: `3.4028235e+38`},
		{Name: "uniqueidentifier", SQL: "CAST('6F9619FF-8B86-D011-B42D-00C04FC964FF' AS uniqueidentifier)", Type: "uniqueidentifier", JSON: `"6f9619ff-8b86-d011-b42d-00c04fc964ff"`},
		{Name: "date", SQL: "CAST('0001-01-01' AS date)", Type: "date", JSON: `"0001-01-01"`},
		{Name: "date last", SQL: "CAST('9999-12-31' AS date)", Type: "date", JSON: `"9999-12-31"`},
		{Name: "time", SQL: "CAST('23:59:59.123456' AS time(6))", Type: "time", JSON: `"23:59:59.123456"`},
		{Name: "time whole", SQL: "CAST('01:02:03' AS time(0))", Type: "time", JSON: `"01:02:03"`},
		{Name: "datetime", SQL: "CAST('2026-11-25T16:22:01.997' AS datetime)", Type: "datetime", JSON: `"2026-11-25T16:22:01.997"`},
		{Name: "smalldatetime", SQL: "CAST('2026-11-25T16:22:00' AS smalldatetime)", Type: "smalldatetime", JSON: `"2026-11-25T16:22:00"`},
		{Name: "datetime2", SQL: "CAST('9999-12-31T23:59:59.123456' AS datetime2(6))", Type: "datetime2", JSON: `"9999-12-31T23:59:59.123456"`},
		{Name: "datetime2 whole", SQL: "CAST('2026-11-25T16:22:01' AS datetime2(0))", Type: "datetime2", JSON: `"2026-11-25T16:22:01"`},
		{Name: "datetimeoffset", SQL: "CAST('2026-11-25T16:22:01.123+05:30' AS datetimeoffset(3))", Type: "datetimeoffset", JSON: `"2026-11-25T16:22:01.123+05:30"`},
		{Name: "varchar", SQL: "CAST('abc' AS varchar(10))", Type: "varchar", JSON: `"abc"`},
		{Name: "char", SQL: "CAST('ab' AS char(4))", Type: "char", JSON: `"ab  "`},
		{Name: "nvarchar astral", SQL: "CAST(N'🦆 漢字' AS nvarchar(20))", Type: "nvarchar", JSON: `"🦆 漢字"`},
		{Name: "nvarchar max", SQL: "CAST(REPLICATE(CAST(N'ü' AS nvarchar(max)), 3) AS nvarchar(max))", Type: "nvarchar", JSON: `"üüü"`},
		{Name: "nvarchar escapes", SQL: `CAST(N'"\' + NCHAR(10) + N'x' AS nvarchar(10))`, Type: "nvarchar", JSON: `"\"\\\nx"`},
		{Name: "varbinary", SQL: "CAST(0x00FF AS varbinary(10))", Type: "varbinary", JSON: `"AP8="`},
		{Name: "varbinary empty", SQL: "CAST(0x AS varbinary(10))", Type: "varbinary", JSON: `""`},
		{Name: "xml", SQL: "CAST(N'<a>ü</a>' AS xml)", Type: "xml", JSON: `"<a>ü</a>"`},
		{Name: "null int", SQL: "CAST(NULL AS int)", Type: "int", JSON: `null`},
		{Name: "null decimal", SQL: "CAST(NULL AS decimal(5,2))", Type: "decimal", JSON: `null`},
		{Name: "null nvarchar", SQL: "CAST(NULL AS nvarchar(10))", Type: "nvarchar", JSON: `null`},
		{Name: "null uniqueidentifier", SQL: "CAST(NULL AS uniqueidentifier)", Type: "uniqueidentifier", JSON: `null`},
		{Name: "null datetimeoffset", SQL: "CAST(NULL AS datetimeoffset)", Type: "datetimeoffset", JSON: `null`},
		{Name: "null sql_variant", SQL: "CAST(NULL AS sql_variant)", Type: "sql_variant", JSON: `null`},
	}
	for i := range list {
		list[i].SQL = "SELECT " + list[i].SQL + " AS v"
	}
	return list
}

func params() []dbtest.ParamCase {
	const echo = "SELECT :value AS v"
	typed := func(name, text string) dialect.Value {
		return dialect.Value{Kind: dialect.String, Type: name, Text: text}
	}
	number := func(text string) dialect.Value { return dialect.Value{Kind: dialect.Number, Text: text} }
	return []dbtest.ParamCase{
		{Name: "null", SQL: echo, Value: dialect.Value{Kind: dialect.Null, Text: "null"}, JSON: `null`},
		{Name: "typed null", SQL: echo, Value: dialect.Value{Kind: dialect.Null, Type: "varbinary", Text: "null"}, JSON: `null`},
		{Name: "null of an integer", SQL: "SELECT COALESCE(:value, 7) AS v", Value: dialect.Value{Kind: dialect.Null, Type: "int", Text: "null"}, JSON: `7`},
		{Name: "true", SQL: echo, Value: dialect.Value{Kind: dialect.Bool, Text: "true"}, JSON: `true`},
		{Name: "integer", SQL: echo, Value: number("-5"), JSON: `"-5"`},
		{Name: "largest", SQL: echo, Value: number("9223372036854775807"), JSON: `"9223372036854775807"`},
		{Name: "beyond bigint", SQL: echo, Value: number("99999999999999999999999999999999999999"), JSON: `"99999999999999999999999999999999999999"`},
		{Name: "too many digits", SQL: echo, Value: number("999999999999999999999999999999999999999"), Code: contract.CodeParameter},
		{Name: "fraction", SQL: echo, Value: number("-12.50"), JSON: `"-12.50"`},
		{Name: "fraction adds exactly", SQL: "SELECT :value + CAST(0.2 AS decimal(10,1)) AS v", Value: number("0.1"), JSON: `"0.3"`},
		{Name: "exponent", SQL: echo, Value: number("1e2"), JSON: `100`},
		{Name: "text", SQL: echo, Value: dialect.Value{Kind: dialect.String, Text: "ü🦆"}, JSON: `"ü🦆"`},
		{Name: "empty text", SQL: echo, Value: dialect.Value{Kind: dialect.String, Text: ""}, JSON: `""`},
		{Name: "int", SQL: echo, Value: typed("int", "7"), JSON: `7`},
		{Name: "tinyint beyond", SQL: echo, Value: typed("tinyint", "256"), Code: contract.CodeParameter},
		{Name: "decimal", SQL: echo, Value: typed("decimal(10,3)", "1.5"), JSON: `"1.500"`},
		{Name: "decimal without sizes", SQL: echo, Value: typed("decimal", "1.55"), JSON: `"1.55"`},
		{Name: "bad decimal", SQL: echo, Value: typed("decimal(10,3)", "1,5"), Code: contract.CodeParameter},
		{Name: "money", SQL: echo, Value: typed("money", "-3.1"), JSON: `"-3.1000"`},
		{Name: "float", SQL: echo, Value: dialect.Value{Kind: dialect.Number, Type: "float", Text: "0.1"}, JSON: `0.1`},
		{Name: "real", SQL: echo, Value: dialect.Value{Kind: dialect.Number, Type: "real", Text: "0.1"}, JSON: `0.1`},
		{Name: "varchar", SQL: echo, Value: typed("varchar(20)", "abc"), JSON: `"abc"`},
		{Name: "nvarchar", SQL: echo, Value: typed("nvarchar(max)", "漢"), JSON: `"漢"`},
		{Name: "date", SQL: echo, Value: typed("date", "2026-02-03"), JSON: `"2026-02-03"`},
		{Name: "time", SQL: "SELECT CAST(:value AS time(3)) AS v", Value: typed("time(3)", "04:05:06.789"), JSON: `"04:05:06.789"`},
		{Name: "datetime", SQL: echo, Value: typed("datetime", "2026-02-03"), JSON: `"2026-02-03T00:00:00.000"`},
		{Name: "datetime2", SQL: "SELECT CAST(:value AS datetime2(6)) AS v", Value: typed("datetime2(6)", "2026-02-03 04:05:06.789012"), JSON: `"2026-02-03T04:05:06.789012"`},
		{Name: "datetimeoffset", SQL: "SELECT CAST(:value AS datetimeoffset(3)) AS v", Value: typed("datetimeoffset(3)", "2026-02-03T04:05:06.789-07:00"), JSON: `"2026-02-03T04:05:06.789-07:00"`},
		{Name: "zone for none", SQL: echo, Value: typed("datetime2", "2026-02-03T04:05:06Z"), Code: contract.CodeParameter},
		{Name: "uniqueidentifier", SQL: echo, Value: typed("uniqueidentifier", "6F9619FF-8B86-D011-B42D-00C04FC964FF"), JSON: `"6f9619ff-8b86-d011-b42d-00c04fc964ff"`},
		{Name: "varbinary", SQL: echo, Value: typed("varbinary", "AP8="), JSON: `"AP8="`},
		{Name: "varbinary empty", SQL: echo, Value: typed("varbinary(10)", ""), JSON: `""`},
		{Name: "bad base64", SQL: echo, Value: typed("varbinary", "%"), Code: contract.CodeParameter},
		{Name: "xml", SQL: echo, Value: typed("xml", "<a/>"), JSON: `"<a/>"`},
		{Name: "json", SQL: "SELECT JSON_VALUE(:value, '$.a[1]') AS v", Value: dialect.Value{Kind: dialect.Object, Type: "json", Text: `{"a":[1,2]}`}, JSON: `"2"`},
		{Name: "bad json", SQL: echo, Value: typed("json", "{"), Code: contract.CodeParameter},
		{Name: "unknown type", SQL: echo, Value: typed("geometry", "x"), Code: contract.CodeParameter},
		{Name: "no type but SQL", SQL: echo, Value: typed("int); DROP TABLE item; --", "1"), Code: contract.CodeParameter},
	}
}
