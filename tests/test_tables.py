"""CSV files whose columns may come and go."""

from multiprocessing import get_context

from utils.tables import append_row, read_rows


def append_many(path, writer):
    for i in range(20):
        append_row(path, {'writer': writer, 'i': i, f'only_{writer}': 1})


def test_rows_keep_their_values_where_columns_differ(tmp_path):
    append_row(tmp_path / 'a.csv', {'x': 1, 'y': 'a,b'})
    append_row(tmp_path / 'a.csv', {'x': 2, 'z': 3})
    assert read_rows(tmp_path / 'a.csv') == [
        {'x': '1', 'y': 'a,b', 'z': ''},
        {'x': '2', 'y': '', 'z': '3'},
    ]


def test_processes_that_write_at_once_lose_no_row(tmp_path):
    path = tmp_path / 'a.csv'
    context = get_context('fork')
    writers = [context.Process(target=append_many, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted((row['writer'], int(row['i'])) for row in read_rows(path)) == [
        (str(writer), i) for writer in range(4) for i in range(20)
    ]
