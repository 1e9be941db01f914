package postgres

// The identifiers that the engine treats in a way of their own.
const (
	oidBool   = 16
	oidBytea  = 17
	oidInt2   = 21
	oidInt4   = 23
	oidText   = 25
	oidJSON   = 114
	oidBox    = 603
	oidFloat4 = 700
	oidFloat8 = 701
	oidJSONB  = 3802
	oidInt8   = 20

	oidTimestamptz         = 1184
	oidTimestamptzArray    = 1185
	oidTstzrange           = 3910
	oidTstzrangeArray      = 3911
	oidTstzmultirange      = 4534
	oidTstzmultirangeArray = 6153
)

// builtin is a type of PostgreSQL itself.
type builtin struct {
	oid, array uint32 // array: its array type, 0 if there is none
	name       string // in pg_type
	shown      string // as format_type prints it: the name in results
}

// builtins are PostgreSQL's own types; their identifiers are the same everywhere and never change.
var builtins = []builtin{
	{16, 1000, "bool", "boolean"},
	{17, 1001, "bytea", "bytea"},
	{18, 1002, "char", "\"char\""},
	{19, 1003, "name", "name"},
	{20, 1016, "int8", "bigint"},
	{21, 1005, "int2", "smallint"},
	{22, 1006, "int2vector", "int2vector"},
	{23, 1007, "int4", "integer"},
	{24, 1008, "regproc", "regproc"},
	{25, 1009, "text", "text"},
	{26, 1028, "oid", "oid"},
	{27, 1010, "tid", "tid"},
	{28, 1011, "xid", "xid"},
	{29, 1012, "cid", "cid"},
	{30, 1013, "oidvector", "oidvector"},
	{114, 199, "json", "json"},
	{142, 143, "xml", "xml"},
	{194, 0, "pg_node_tree", "pg_node_tree"},
	{600, 1017, "point", "point"},
	{601, 1018, "lseg", "lseg"},
	{602, 1019, "path", "path"},
	{603, 1020, "box", "box"},
	{604, 1027, "polygon", "polygon"},
	{628, 629, "line", "line"},
	{650, 651, "cidr", "cidr"},
	{700, 1021, "float4", "real"},
	{701, 1022, "float8", "double precision"},
	{705, 0, "unknown", "unknown"},
	{718, 719, "circle", "circle"},
	{774, 775, "macaddr8", "macaddr8"},
	{790, 791, "money", "money"},
	{829, 1040, "macaddr", "macaddr"},
	{869, 1041, "inet", "inet"},
	{1033, 1034, "aclitem", "aclitem"},
	{1042, 1014, "bpchar", "character"},
	{1043, 1015, "varchar", "character varying"},
	{1082, 1182, "date", "date"},
	{1083, 1183, "time", "time without time zone"},
	{1114, 1115, "timestamp", "timestamp without time zone"},
	{1184, 1185, "timestamptz", "timestamp with time zone"},
	{1186, 1187, "interval", "interval"},
	{1266, 1270, "timetz", "time with time zone"},
	{1560, 1561, "bit", "bit"},
	{1562, 1563, "varbit", "bit varying"},
	{1700, 1231, "numeric", "numeric"},
	{1790, 2201, "refcursor", "refcursor"},
	{2202, 2207, "regprocedure", "regprocedure"},
	{2203, 2208, "regoper", "regoper"},
	{2204, 2209, "regoperator", "regoperator"},
	{2205, 2210, "regclass", "regclass"},
	{2206, 2211, "regtype", "regtype"},
	{2249, 2287, "record", "record"},
	{2275, 1263, "cstring", "cstring"},
	{2278, 0, "void", "void"},
	{2950, 2951, "uuid", "uuid"},
	{2970, 2949, "txid_snapshot", "txid_snapshot"},
	{3220, 3221, "pg_lsn", "pg_lsn"},
	{3361, 0, "pg_ndistinct", "pg_ndistinct"},
	{3402, 0, "pg_dependencies", "pg_dependencies"},
	{3614, 3643, "tsvector", "tsvector"},
	{3615, 3645, "tsquery", "tsquery"},
	{3642, 3644, "gtsvector", "gtsvector"},
	{3734, 3735, "regconfig", "regconfig"},
	{3769, 3770, "regdictionary", "regdictionary"},
	{3802, 3807, "jsonb", "jsonb"},
	{3904, 3905, "int4range", "int4range"},
	{3906, 3907, "numrange", "numrange"},
	{3908, 3909, "tsrange", "tsrange"},
	{3910, 3911, "tstzrange", "tstzrange"},
	{3912, 3913, "daterange", "daterange"},
	{3926, 3927, "int8range", "int8range"},
	{4072, 4073, "jsonpath", "jsonpath"},
	{4089, 4090, "regnamespace", "regnamespace"},
	{4096, 4097, "regrole", "regrole"},
	{4191, 4192, "regcollation", "regcollation"},
	{4451, 6150, "int4multirange", "int4multirange"},
	{4532, 6151, "nummultirange", "nummultirange"},
	{4533, 6152, "tsmultirange", "tsmultirange"},
	{4534, 6153, "tstzmultirange", "tstzmultirange"},
	{4535, 6155, "datemultirange", "datemultirange"},
	{4536, 6157, "int8multirange", "int8multirange"},
	{5017, 0, "pg_mcv_list", "pg_mcv_list"},
	{5038, 5039, "pg_snapshot", "pg_snapshot"},
	{5069, 271, "xid8", "xid8"},
}

// aliases are other names of types that SQL knows.
var aliases = map[string]string{
	"int": "int4", "serial": "int4", "bigserial": "int8", "smallserial": "int2",
	"decimal": "numeric", "dec": "numeric", "float": "float8", "nchar": "bpchar",
	"national character": "bpchar", "national character varying": "varchar", "char varying": "varchar",
}

// typeTable finds built-in types by number and by name.
type typeTable struct {
	byOID  map[uint32]*builtin // elements and, under the array's number, too
	byName map[string]*builtin
	params map[string]paramType // names as they are mostly written, arrays included
}

var types = newTypeTable()

func newTypeTable() *typeTable {
	t := &typeTable{
		byOID:  make(map[uint32]*builtin, 2*len(builtins)),
		byName: make(map[string]*builtin, 3*len(builtins)),
		params: make(map[string]paramType, 6*len(builtins)),
	}
	for i := range builtins {
		b := &builtins[i]
		t.byOID[b.oid] = b
		if b.array != 0 {
			t.byOID[b.array] = b
		}
		t.byName[b.shown] = b
	}
	for i := range builtins {
		t.byName[builtins[i].name] = &builtins[i]
	}
	for alias, name := range aliases {
		t.byName[alias] = t.byName[name]
	}
	t.byName["char"] = t.byName["bpchar"] // as SQL means it; the one-byte type is written "char", with quotes
	for name, b := range t.byName {
		t.params[name] = paramType{oid: b.oid, elem: b.oid}
		if b.array != 0 {
			t.params[name+"[]"] = paramType{oid: b.array, elem: b.oid, array: true, delim: delimOf(b.oid)}
		}
	}
	return t
}

// builtinName is the name of a type in results; empty if the type is not PostgreSQL's own.
func builtinName(oid uint32) string {
	switch oid { // the common ones without a look at the table
	case oidInt4:
		return "integer"
	case oidText:
		return "text"
	case oidInt8:
		return "bigint"
	}
	b := types.byOID[oid]
	switch {
	case b == nil:
		return ""
	case b.oid == oid:
		return b.shown
	}
	return b.shown + "[]"
}
