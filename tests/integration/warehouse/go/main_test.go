// Package warehouse holds what Grafana's ClickHouse plugin does with its client, clickhouse-go over HTTP.
//
// The Python suite runs it (test_warehouse_clients.py) with ISTHMUS_GO_ADDRESS, _USER and _PASSWORD.
package warehouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Grafana's plugin compresses by gzip when it speaks HTTP.
func options(t *testing.T, compression clickhouse.CompressionMethod) *clickhouse.Options {
	t.Helper()
	address := os.Getenv("ISTHMUS_GO_ADDRESS")
	if address == "" {
		t.Skip("ISTHMUS_GO_ADDRESS is not set")
	}
	return &clickhouse.Options{
		Protocol:    clickhouse.HTTP,
		Addr:        []string{address},
		Auth:        clickhouse.Auth{Username: os.Getenv("ISTHMUS_GO_USER"), Password: os.Getenv("ISTHMUS_GO_PASSWORD")},
		Settings:    clickhouse.Settings{"max_execution_time": 60},
		Compression: &clickhouse.Compression{Method: compression},
		DialTimeout: 10 * time.Second,
	}
}

func methods() map[string]clickhouse.CompressionMethod {
	return map[string]clickhouse.CompressionMethod{
		"none": clickhouse.CompressionNone, "gzip": clickhouse.CompressionGZIP, "deflate": clickhouse.CompressionDeflate,
	}
}

// The plugin goes through database/sql.
func TestDatabaseSQL(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			db := clickhouse.OpenDB(options(t, method))
			defer db.Close()
			if err := db.Ping(); err != nil {
				t.Fatal(err)
			}
			var version string
			if err := db.QueryRow("SELECT version()").Scan(&version); err != nil || version == "" {
				t.Fatal(version, err)
			}
			// Types that a panel reads.
			row := db.QueryRow(`SELECT toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC'), toDateTime('2026-01-02 03:04:05', 'UTC'),
				toFloat64(1.5), CAST(NULL AS Nullable(Float64)), toLowCardinality('x'), map('a', 1), [1, 2],
				toUInt64(18446744073709551615), toDecimal64(1.25, 2)`)
			var at, second time.Time
			var number float64
			var null *float64
			var text string
			var pairs map[string]uint8
			var list []uint8
			var big uint64
			var decimal any
			if err := row.Scan(&at, &second, &number, &null, &text, &pairs, &list, &big, &decimal); err != nil {
				t.Fatal(err)
			}
			if at.UnixMilli() != 1767323045678 || number != 1.5 || null != nil || text != "x" || pairs["a"] != 1 ||
				len(list) != 2 || big != 18446744073709551615 {
				t.Fatal(at, second, number, null, text, pairs, list, big, decimal)
			}
		})
	}
}

func TestManyRowsInManyBlocks(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			db := clickhouse.OpenDB(options(t, method))
			defer db.Close()
			rows, err := db.Query("SELECT number, toString(number) FROM numbers(300000)")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var count, sum, number uint64
			var text string
			for rows.Next() {
				if err := rows.Scan(&number, &text); err != nil {
					t.Fatal(err)
				}
				count, sum = count+1, sum+number
			}
			if rows.Err() != nil || count != 300000 || sum != 300000*299999/2 {
				t.Fatal(count, sum, rows.Err())
			}
		})
	}
}

func TestEmptyResult(t *testing.T) {
	db := clickhouse.OpenDB(options(t, clickhouse.CompressionGZIP))
	defer db.Close()
	var number uint64
	if err := db.QueryRow("SELECT number FROM numbers(0)").Scan(&number); !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
}

func TestErrorHasItsCode(t *testing.T) {
	db := clickhouse.OpenDB(options(t, clickhouse.CompressionGZIP))
	defer db.Close()
	_, err := db.Query("SELECT nope")
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) || exception.Code != 47 {
		t.Fatalf("%T %v", err, err)
	}
}

func TestErrorInMidStream(t *testing.T) {
	db := clickhouse.OpenDB(options(t, clickhouse.CompressionNone))
	defer db.Close()
	rows, err := db.Query("SELECT throwIf(number = 400000) FROM numbers(1000000) SETTINGS max_block_size = 10000")
	if err != nil {
		return // the failure came before the first block
	}
	defer rows.Close()
	for rows.Next() {
	}
	if rows.Err() == nil {
		t.Fatal("a result that was cut short looked whole")
	}
}

func TestCancel(t *testing.T) {
	db := clickhouse.OpenDB(options(t, clickhouse.CompressionGZIP))
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := db.QueryContext(ctx, "SELECT count() FROM numbers(1000000000000)")
	if err == nil || time.Since(began) > 20*time.Second {
		t.Fatal(err, time.Since(began))
	}
}

func TestBatchInsertAndBind(t *testing.T) {
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			connection, err := clickhouse.Open(options(t, method))
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			ctx := context.Background()
			database := fmt.Sprintf("go_%s_%d", name, time.Now().UnixNano())
			for _, statement := range []string{
				"CREATE DATABASE " + database,
				"CREATE TABLE " + database + ".t (id UInt64, s String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id",
			} {
				if err := connection.Exec(ctx, statement); err != nil {
					t.Fatal(err)
				}
			}
			defer connection.Exec(ctx, "DROP DATABASE "+database)
			batch, err := connection.PrepareBatch(ctx, "INSERT INTO "+database+".t")
			if err != nil {
				t.Fatal(err)
			}
			for number := range 1000 {
				if err := batch.Append(uint64(number), "it's;\n\x00", time.UnixMilli(int64(number)).UTC()); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Fatal(err)
			}
			var count uint64
			row := connection.QueryRow(ctx, "SELECT count() FROM "+database+".t WHERE s = ? AND id >= ?", "it's;\n\x00", 500)
			if err := row.Scan(&count); err != nil || count != 500 {
				t.Fatal(count, err)
			}
		})
	}
}
